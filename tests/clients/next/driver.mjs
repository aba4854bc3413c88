// A real client of LiveStore's repository HEAD (generation "next"), which npm does not have: `bundle.mjs` makes one file of
// it. It follows a store and prints each batch it is given as a line of JSON; a line of JSON that it reads is pushed.
import readline from 'node:readline'

import { makeWsSync } from '@livestore/sync-cf/client'
import { Effect, Exit, FetchHttpClient, KeyValueStore, Option, Stream } from '@livestore/utils/effect'
import WebSocket from 'ws'

globalThis.WebSocket = WebSocket
const [url, storeId] = process.argv.slice(2)
const emit = (message) => process.stdout.write(`${JSON.stringify(message)}\n`)

const program = Effect.gen(function* () {
  const backend = yield* makeWsSync({ url })({ storeId, clientId: 'next', payload: undefined })
  yield* backend.pull(Option.none(), { live: true }).pipe(
    Stream.runForEach(({ batch }) => Effect.sync(() => emit({ events: batch.map(({ eventEncoded }) => eventEncoded) }))),
    Effect.tapCause((cause) => Effect.sync(() => emit({ failed: String(cause) }))),
    Effect.forkScoped,
  )
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  while (true) {
    const { value, done } = yield* Effect.promise(() => lines.next())
    if (done) return
    const exit = yield* Effect.exit(backend.push(JSON.parse(value)))
    emit(Exit.isSuccess(exit) ? { pushed: true } : { failed: String(exit.cause) })
  }
}).pipe(Effect.scoped, Effect.provide(KeyValueStore.layerMemory), Effect.provide(FetchHttpClient.layer))

await Effect.runPromise(program)
process.exit(0)
