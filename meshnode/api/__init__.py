"""The local API: HTTP/1.1 on Unix sockets, JSON and MessagePack, for programs of this NOC."""
