// node --import ./simulation-off.mjs measure.mjs URL STORE DIRECTORY (pull|commit) COUNT
//
// Prints seconds, and seconds of CPU, for scripts/benchmark/stores.py.
//
// `pull`: from opening an empty store until COUNT events are pulled and materialized. `commit`: COUNT commits one after the
// other, until the leader has all of them in its log; and, beside it, until the last call had returned.
import WebSocket from 'ws'

globalThis.WebSocket = WebSocket

const { makeAdapter } = await import('@livestore/adapter-node')
const { createStorePromise } = await import('@livestore/livestore')
const { makeWsSync } = await import('@livestore/sync-cf/client')
const { events, schema, tables } = await import('./schema.mjs')

const [url, storeId, baseDirectory, act, text] = process.argv.slice(2)
const count = Number(text)

const open = () => createStorePromise({
  schema,
  storeId,
  adapter: makeAdapter({
    clientId: 'measured',
    storage: { type: 'fs', baseDirectory },
    sync: { backend: makeWsSync({ url }) },
  }),
  batchUpdates: (run) => run(),
  disableDevtools: true,
})

const until = async (condition) => {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5))
}

const now = () => ({ at: performance.now(), cpu: process.cpuUsage() })
const since = ({ at, cpu }) => {
  const { user, system } = process.cpuUsage(cpu)
  return { seconds: (performance.now() - at) / 1000, cpu_s: (user + system) / 1e6 }
}

const pull = async () => {
  const begin = now()
  const store = await open()
  await until(async () => {
    const { session, leader } = await store._dev.syncStates()
    return leader.upstreamHead.global === count && session.localHead.global === count
  })
  if (store.query(tables.todos.count()) !== count) throw new Error('rows are missing')
  return since(begin)
}

const commit = async () => {
  const store = await open()
  const begin = now()
  for (let number = 0; number < count; number++) {
    store.commit(events.todoCreated({ id: `todo-${number}`, text: `Todo number ${number}` }))
  }
  const returned = since(begin).seconds
  await until(async () => (await store._dev.syncStates()).leader.localHead.global === count)
  return { ...since(begin), returned }
}

console.log(JSON.stringify(await { pull, commit }[act]()))
process.exit(0)
