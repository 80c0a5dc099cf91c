"""Finding peers: static addresses and mDNS."""
