// A todo list in a terminal, shared with everybody who has the same server and list.
//
//   node todo.mjs                      shows the list, and what others change, until Ctrl-C
//   node todo.mjs add "Buy milk"       adds to it
//   node todo.mjs done 1               ticks the first one off
//
// SYNC_URL, LIST, AUTH_TOKEN and NAME say where, which list, with which token and who you are.
import WebSocket from 'ws'
import { events, schema, tables } from './schema.mjs'

globalThis.WebSocket ??= WebSocket // Node 20 has none of its own

const { makeAdapter } = await import('@livestore/adapter-node')
const { createStorePromise } = await import('@livestore/livestore')
const { makeWsSync } = await import('@livestore/sync-cf/client')

const { SYNC_URL = 'ws://127.0.0.1:8000', LIST = 'todos', AUTH_TOKEN, NAME = 'me' } = process.env
const [act = 'watch', what] = process.argv.slice(2)

const store = await createStorePromise({
  schema,
  storeId: LIST,
  adapter: makeAdapter({
    clientId: NAME,
    storage: { type: 'fs', baseDirectory: `data/${NAME}` }, // the list is there without a network, too
    sync: { backend: makeWsSync({ url: SYNC_URL }), initialSyncOptions: { _tag: 'Blocking', timeout: 5_000 } },
  }),
  ...(AUTH_TOKEN === undefined ? {} : { syncPayload: { authToken: AUTH_TOKEN } }),
  batchUpdates: (run) => run(),
  disableDevtools: true,
})

const all = tables.todos.orderBy('id', 'asc')
const show = (todos) => {
  console.log(todos.map(({ text, done }, at) => `${at + 1}. [${done ? 'x' : ' '}] ${text}`).join('\n') || '(nothing to do)')
}

/** Waits until the server has stored what this program has committed; says whether it has. */
const synced = async (limitMs = 30_000) => {
  for (const begin = Date.now(); Date.now() - begin < limitMs; ) {
    const { session, leader } = await store._dev.syncStates()
    if (session.pending.length === 0 && leader.pending.length === 0) return true
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return false
}

if (act === 'watch') {
  store.subscribe(all, (todos) => { console.log(); show(todos) })
} else {
  if (act === 'add') store.commit(events.todoCreated({ id: `${Date.now()}-${NAME}`, text: what }))
  if (act === 'done') store.commit(events.todoDone({ id: store.query(all)[Number(what) - 1].id }))
  show(store.query(all))
  if (!(await synced())) console.error(`No server answers at ${SYNC_URL}. The change is kept here, and sent the next time.`)
  await store.shutdownPromise()
  process.exit(0)
}
