"""The Flashblocks fan-out: upstreams, access, filters, compression."""
