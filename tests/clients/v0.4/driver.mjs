// Drives the real @livestore/sync-cf 0.4.0 clients: makeWsSync and makeHttpSync.
import WebSocket from 'ws'

import { backendOperations } from '../backends.mjs'
import { serve } from '../json-lines.mjs'
import { recordingWebSocket } from '../sockets.mjs'

// Node 20 has no WebSocket of its own and the client reads the global one.
const { RecordingWebSocket, ...sockets } = recordingWebSocket(WebSocket)
globalThis.WebSocket = RecordingWebSocket

const effect = await import('@livestore/utils/effect')
const { makeHttpSync, makeWsSync } = await import('@livestore/sync-cf/client')
const { Effect, FetchHttpClient, KeyValueStore, Layer, Option, Stream } = effect

const memoryStore = (memory) =>
  KeyValueStore.makeStringOnly({
    get: (key) => Effect.sync(() => Option.fromNullable(memory.get(key))),
    set: (key, value) => Effect.sync(() => { memory.set(key, value) }),
    remove: (key) => Effect.sync(() => { memory.delete(key) }),
    clear: Effect.sync(() => memory.clear()),
    size: Effect.sync(() => memory.size),
  })

const pull = (backend, cursor, live) =>
  backend.pull(
    cursor === null || cursor === undefined
      ? Option.none()
      : Option.some({ eventSequenceNumber: cursor, metadata: Option.none() }),
    { live },
  )

const generation = {
  provide: Effect.provide(FetchHttpClient.layer),
  make: ({ transport, url, storeId, payload, options }, memory) =>
    (transport === 'http' ? makeHttpSync : makeWsSync)({ url, ...options })({ storeId, clientId: 'driver', payload }).pipe(
      Effect.provide(Layer.succeed(KeyValueStore.KeyValueStore, memoryStore(memory))),
    ),
  pullLive: (backend, cursor) => Effect.sync(() => pull(backend, cursor, true)),
  pullHistory: async ({ run, entry, cursor }) =>
    [...(await run(pull(entry.backend, cursor, false).pipe(Stream.runCollect)))],
  remaining: ({ pageInfo }) => ({ NoMore: 0, MoreKnown: pageInfo.remaining })[pageInfo._tag] ?? null,
}

serve(backendOperations({ effect, generation, sockets }))
