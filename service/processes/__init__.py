"""Many processes as one service: HTTP workers, an engine for each device, and a supervisor over them.

    supervisor ── binds the port, keeps everybody running, hears their heartbeats, serves nothing itself
     ├─ engine-0 …   LocalEngine behind an EngineServer, one a device
     └─ worker-0 …   HTTP, decoding, RemoteEngine; they share the listener; no torch, no OpenVINO

No child outlives the supervisor: the kernel kills them with it.
"""
