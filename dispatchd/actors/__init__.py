"""The actors: thin shells around the model, and the runtime that carries, measures, pauses and restarts them."""
