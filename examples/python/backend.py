"""A FastAPI backend whose data is a LiveStore store: what it writes shows up in every app at once, and the reverse.

    pip install fastapi uvicorn
    SYNC_URL=ws://127.0.0.1:8000 STORE_ID=team-7 uvicorn --app-dir examples/python backend:app

FastAPI calls plain functions in threads, where a store may be used as it is. In an `async` function, use
`await asyncio.to_thread(store.commit, …)`. One process has the file: start uvicorn with one worker.
"""

import asyncio
import os
import uuid
from contextlib import asynccontextmanager

from fastapi import FastAPI
from todos import TodoCompleted, TodoCreated, schema

from livesync_trio.livestore import open_store_blocking


@asynccontextmanager
async def lifespan(app):
    app.state.store = await asyncio.to_thread(
        open_store_blocking, "backend.db", schema, store_id=os.environ["STORE_ID"], url=os.environ["SYNC_URL"]
    )
    yield
    await asyncio.to_thread(app.state.store.close)


app = FastAPI(lifespan=lifespan)


@app.get("/todos")
def list_todos():
    return app.state.store.query("SELECT * FROM todos ORDER BY text")


@app.post("/todos", status_code=201)
def create_todo(text: str):
    todo_id = str(uuid.uuid4())
    app.state.store.commit(TodoCreated(todo_id, text))
    return {"id": todo_id}


@app.post("/todos/{todo_id}/complete", status_code=204)
def complete_todo(todo_id: str):
    app.state.store.commit(TodoCompleted(todo_id))


@app.get("/health")
def health():
    status = app.state.store.sync_status
    return {"connected": status.connected, "pending": status.pending, "error": status.last_error}
