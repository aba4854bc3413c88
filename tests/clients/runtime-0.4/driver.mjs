// One LiveStore 0.4.0 application instance per process: the real store, adapter, leader and sync client.
import WebSocket from 'ws'

import { OperationFailed, serve } from '../json-lines.mjs'
import { recordingWebSocket } from '../sockets.mjs'

// Node 20 has no WebSocket of its own and the client reads the global one.
const { RecordingWebSocket, records } = recordingWebSocket(WebSocket)
globalThis.WebSocket = RecordingWebSocket

const { makeAdapter } = await import('@livestore/adapter-node')
const { createStorePromise } = await import('@livestore/livestore')
const { makeWsSync } = await import('@livestore/sync-cf/client')
const { Effect } = await import('@livestore/utils/effect')
const { events, schema, tables } = await import('./schema.mjs')

const stores = new Map()

const open = async ({ store: name, url, storeId, clientId, directory, options, payload }) => {
  const store = await createStorePromise({
    schema,
    storeId,
    adapter: makeAdapter({
      clientId,
      storage: directory === undefined ? { type: 'in-memory' } : { type: 'fs', baseDirectory: directory },
      sync: { backend: makeWsSync({ url, ...options }) },
    }),
    syncPayload: payload,
    batchUpdates: (run) => run(),
    disableDevtools: true,
  })
  stores.set(name, store)
}

const makeEvent = ({ event, args }) => {
  if (events[event] === undefined) throw new OperationFailed({ _tag: 'UnknownEvent', event })
  return events[event](args)
}

/** Commits one event every `everyMs`, as an application under a user's hands would. */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

const isConfirmed = async (store) => {
  const { session, leader } = await store._dev.syncStates()
  return session.pending.length === 0 && leader.pending.length === 0
}

const commitAll = async ({ store: name, commits, everyMs, confirmed }) => {
  const store = stores.get(name)
  for (const commit of commits) {
    store.commit(makeEvent(commit))
    await pause(everyMs)
    while (confirmed && !await isConfirmed(store)) await pause(20)
  }
}

const describeState = ({ pending, localHead, upstreamHead }) =>
  ({ pending: pending.length, localHead: localHead.global, upstreamHead: upstreamHead.global })

serve({
  open,
  commitAll,
  tables: async ({ store }) => ({
    todos: [...stores.get(store).query(tables.todos.orderBy('id', 'asc'))],
    settings: [...stores.get(store).query(tables.settings.orderBy('key', 'asc'))],
  }),
  syncStates: async ({ store }) => {
    const { session, leader } = await stores.get(store)._dev.syncStates()
    return { session: describeState(session), leader: describeState(leader) }
  },
  networkStatus: async ({ store }) => Effect.runPromise(stores.get(store).networkStatus.pipe(Effect.map((_) => _.isConnected))),
  shutdown: async ({ store }) => { await stores.get(store).shutdownPromise() },
  sockets: async ({ marker }) => records.filter(({ url }) => url.includes(marker)),
})
