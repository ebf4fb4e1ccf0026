"""The HTTP service around the engine: FastAPI on uvicorn."""
