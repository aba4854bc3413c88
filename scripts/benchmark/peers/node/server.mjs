// What one JavaScript thread can do: LiveStore 0.4 over WebSocket, as fast as Node and better-sqlite3 allow.
//
//   node server.mjs PORT DATABASE [ws]
//
// With `ws`, that library frames and sends each message, as its users have it; without, ready frames go past it.
//
// Durable (WAL, synchronous=FULL), one transaction for everything that one turn of the event loop brought, every
// publication encoded and framed once. Nothing is checked but the parent number, nobody is authenticated, no limit is
// kept, a slow reader costs memory without bound. It is a yardstick, not a server to be used.
import { createServer } from 'node:http'
import { randomUUID } from 'node:crypto'
import Database from 'better-sqlite3'
import { Sender, WebSocketServer } from 'ws'

const [port, path, byLibrary] = process.argv.slice(2)
const PAGE_EVENTS = 100

const db = new Database(path)
db.pragma('journal_mode = WAL')
db.pragma('synchronous = FULL')
db.exec(`
  CREATE TABLE IF NOT EXISTS stores (id INTEGER PRIMARY KEY, name TEXT UNIQUE, backend_id TEXT);
  CREATE TABLE IF NOT EXISTS events (store INTEGER, seq INTEGER, event TEXT, created_at TEXT,
    PRIMARY KEY (store, seq)) WITHOUT ROWID;
`)
const findStore = db.prepare('SELECT id, backend_id FROM stores WHERE name = ?')
const addStore = db.prepare('INSERT INTO stores VALUES (?, ?, ?)')
const findHead = db.prepare('SELECT max(seq) AS head FROM events WHERE store = ?')
const addEvent = db.prepare('INSERT INTO events VALUES (?, ?, ?, ?)')
const countAfter = db.prepare('SELECT count(*) AS events FROM events WHERE store = ? AND seq > ?').pluck()
const readPage = db
  .prepare(`SELECT seq, event, created_at FROM events WHERE store = ? AND seq > ? ORDER BY seq LIMIT ${PAGE_EVENTS}`)
  .raw()
const begin = db.prepare('BEGIN IMMEDIATE')
const commit = db.prepare('COMMIT')

const stores = new Map()
let lastId = db.prepare('SELECT max(id) AS id FROM stores').get().id ?? 0
let unsaved = []

function storeNamed(name) {
  let store = stores.get(name)
  if (store === undefined) {
    const row = findStore.get(name)
    const backendId = row?.backend_id ?? randomUUID()
    const id = row?.id ?? ++lastId
    if (row === undefined) {
      unsaved.push([id, name, backendId]) // with the next commit; whoever only follows an empty store needs no row
    }
    store = { id, backendId, head: findHead.get(id).head ?? 0, followers: new Set() }
    stores.set(name, store)
  }
  return store
}

// --- encoding -------------------------------------------------------------------------------------------------------

const frameOptions = { fin: true, opcode: 1, mask: false, readOnly: true, rsv1: false }
const framed = byLibrary
  ? (text) => Buffer.from(text)
  : (text) => Buffer.concat(Sender.frame(Buffer.from(text), frameOptions))
const textual = { binary: false }
const send = byLibrary
  ? ({ ws, socket }, text) => (ws.send(text, textual), !socket.writableNeedDrain)
  : ({ socket }, frame) => socket.write(frame)
const item = (event, createdAt) =>
  `{"eventEncoded":${event},"metadata":{"_tag":"Some","value":` +
  `{"_tag":"SyncMessage.SyncMetadata","createdAt":"${createdAt}"}}}`
const page = (items, remaining, store) =>
  `{"batch":[${items.join(',')}],"pageInfo":` +
  (remaining > 0 ? `{"_tag":"MoreKnown","remaining":${remaining}}` : '{"_tag":"NoMore"}') +
  `,"backendId":"${store.backendId}"}`
const chunk = (id, response) => `{"_tag":"Chunk","requestId":"${id}","values":[${response}]}`
const exit = (id, outcome) => `{"_tag":"Exit","requestId":"${id}","exit":${outcome}}`
const failed = (id, error) => exit(id, `{"_tag":"Failure","cause":{"_tag":"Fail","error":${error}}}`)

// --- pushes: one transaction a turn of the event loop ---------------------------------------------------------------

let waiting = []

function push(peer, store, request) {
  if (waiting.push({ peer, store, request }) === 1) setImmediate(commitAll)
}

function commitAll() {
  const group = waiting
  waiting = []
  const createdAt = new Date().toISOString()
  const accepted = []
  const refused = []
  begin.run()
  for (const row of unsaved) addStore.run(...row)
  unsaved = []
  for (const { peer, store, request } of group) {
    const { batch } = request.payload
    if (batch.length > 0 && batch[0].parentSeqNum !== store.head) {
      refused.push([peer, request.id, store.head, batch[0].parentSeqNum])
      continue
    }
    const items = []
    for (const event of batch) {
      const text = JSON.stringify(event)
      addEvent.run(store.id, event.seqNum, text, createdAt)
      store.head = event.seqNum
      items.push(item(text, createdAt))
    }
    accepted.push([peer, request.id, store, items])
  }
  commit.run()
  for (const [peer, id, store, items] of accepted) {
    if (store.followers.size > 0 && items.length > 0) publish(store, page(items, 0, store))
    send(peer, framed(exit(id, '{"_tag":"Success","value":{}}')))
  }
  for (const [peer, id, head, parent] of refused) {
    const error = `{"_tag":"ServerAheadError","minimumExpectedNum":${head},"providedNum":${parent}}`
    send(peer, framed(failed(id, error)))
  }
}

function publish(store, response) {
  const frames = new Map() // by request id: clients that started alike share even that
  for (const { peer, id } of store.followers) {
    let frame = frames.get(id)
    if (frame === undefined) frames.set(id, (frame = framed(chunk(id, response))))
    send(peer, frame)
  }
}

// --- pulls ----------------------------------------------------------------------------------------------------------

function pull(peer, store, { id, payload }, onEnd) {
  let after = payload.cursor._tag === 'Some' ? payload.cursor.value.eventSequenceNumber : 0
  let remaining = countAfter.get(store.id, after)
  const more = () => {
    const rows = readPage.all(store.id, after)
    remaining -= rows.length
    if (rows.length > 0) after = rows[rows.length - 1][0]
    const items = rows.map(([, event, createdAt]) => item(event, createdAt))
    const drained = send(peer, framed(chunk(id, page(items, remaining, store))))
    if (remaining > 0 && rows.length > 0) {
      if (drained) setImmediate(more)
      else peer.socket.once('drain', more)
    } else if (payload.live) {
      const follower = { peer, id }
      store.followers.add(follower)
      onEnd(() => store.followers.delete(follower))
    } else {
      send(peer, framed(exit(id, '{"_tag":"Success"}')))
    }
  }
  more()
}

// --- connections ----------------------------------------------------------------------------------------------------

const http = createServer((_, response) => response.end('bare'))
const server = new WebSocketServer({ server: http, perMessageDeflate: false, skipUTF8Validation: true })
const PONG = framed('{"_tag":"Pong"}')

server.on('connection', (ws, upgrade) => {
  const peer = { ws, socket: upgrade.socket } // ws frames every message anew; ready frames go to the socket itself
  peer.socket.setNoDelay(true)
  const store = storeNamed(new URL(upgrade.url, 'http://bare').searchParams.get('storeId'))
  const ends = []
  ws.on('message', (data) => {
    const message = JSON.parse(data)
    if (message._tag === 'Request') {
      if (message.tag === 'SyncWsRpc.Push') push(peer, store, message)
      else pull(peer, store, message, (end) => ends.push(end))
    } else if (message._tag === 'Ping') send(peer, PONG)
  })
  ws.on('close', () => ends.forEach((end) => end()))
  ws.on('error', () => ws.terminate())
})
http.listen(Number(port), '127.0.0.1', 4096)
process.on('SIGTERM', () => process.exit(0))
