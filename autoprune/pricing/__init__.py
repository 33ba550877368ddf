"""The price of a schedule: FLOPs and cache bytes from shapes alone."""
