"""The exchange types: one module, and one `RoutingTable`, for each."""
