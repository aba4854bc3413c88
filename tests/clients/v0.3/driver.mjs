// Drives the real @livestore/sync-cf 0.3.1 client: makeCfSync.
import WebSocket from 'ws'

import { backendOperations } from '../backends.mjs'
import { serve } from '../json-lines.mjs'
import { recordingWebSocket } from '../sockets.mjs'

// Node 20 has no WebSocket of its own and the client reads the global one.
const { RecordingWebSocket, ...sockets } = recordingWebSocket(WebSocket)
globalThis.WebSocket = RecordingWebSocket

const effect = await import('@livestore/utils/effect')
const { makeCfSync } = await import('@livestore/sync-cf')
const { Effect, FetchHttpClient, Option, Stream } = effect

const pull = (backend, cursor) =>
  backend.pull(
    cursor === null || cursor === undefined
      ? Option.none()
      : Option.some({ cursor: { global: cursor, client: 0 }, metadata: Option.none() }),
  )

const generation = {
  provide: Effect.provide(FetchHttpClient.layer),
  make: ({ url, storeId, payload }) => makeCfSync({ url })({ storeId, clientId: 'driver', payload }),
  pullLive: (backend, cursor) => Effect.sync(() => pull(backend, cursor)),
  // This client allows one pull per backend and its stream never ends, so history is read through a backend of its own.
  pullHistory: async ({ run, open, close, entry, cursor }) => {
    const own = await open(entry.spec)
    try {
      const history = pull(own.backend, cursor).pipe(Stream.takeUntil(({ remaining }) => remaining === 0))
      return [...(await run(history.pipe(Stream.runCollect)))]
    } finally {
      await close(own)
    }
  },
  remaining: ({ remaining }) => remaining,
}

serve(backendOperations({ effect, generation, sockets }))
