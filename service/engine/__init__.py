"""Batcher and runners behind one small interface (``client``): pixels in, logits, embeddings and class maps out."""
