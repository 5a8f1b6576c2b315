"""carta-gateway beside other proxies: `benches/peers/run` runs it."""
