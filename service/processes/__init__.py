"""Many processes as one service: HTTP workers, one engine per device, and a supervisor over them.

    supervisor ── binds the port, keeps the other processes running, reads their heartbeats, serves nothing itself
     ├─ engine-0 …   LocalEngine behind an EngineServer, one per device
     └─ worker-0 …   HTTP, decoding, RemoteEngine; they share the listener; no torch, no OpenVINO

No child outlives the supervisor: the kernel kills them when it dies.
"""
