// A client of the original's protocol, as its web client speaks it: acknowledges with inReplyTo, sends one
// acknowledgement without table and chunk, stores lastLSN, understands finalLSN. Prints its rows when asked to.
// usage: node --experimental-websocket original.mjs URL CLIENT_ID TOKEN LSN ROWS [CHANGES]
// With CHANGES (JSON) it writes them when it is live, and prints the answer and how often they came back to it.
const [url, clientId, token, lsn, wanted, toWrite] = process.argv.slice(2)
const tables = new Map()
let position = lsn
let number = 0
let written
let echoes = 0
const socket = new WebSocket(`${url}/api/sync?clientId=${clientId}&lsn=${encodeURIComponent(lsn)}&auth=${token}`)

const send = (message) =>
  socket.send(JSON.stringify({ messageId: `clt_${Date.now()}_${number++}`, timestamp: Date.now(), clientId, ...message }))

const apply = (changes) => {
  for (const { table, operation, data } of changes) {
    if (!tables.has(table)) tables.set(table, new Map())
    if (operation === 'delete') tables.get(table).delete(data.id)
    else tables.get(table).set(data.id, data)
  }
}

const finish = () => {
  if (toWrite && !written) return
  if (toWrite) {
    if (socket.readyState !== WebSocket.OPEN) return
    console.log(JSON.stringify({ lsn: position, written, echoes }))
    socket.close()
    return
  }
  const rows = Object.fromEntries([...tables].map(([name, rows]) => [name, [...rows.values()]]))
  if (rows[wanted.split('=')[0]]?.length !== Number(wanted.split('=')[1])) return
  console.log(JSON.stringify({ lsn: position, rows }))
  socket.close()
}

socket.addEventListener('message', ({ data }) => {
  const message = JSON.parse(data)
  if (!message.type || !message.messageId) return // as the original
  const inReplyTo = message.messageId
  switch (message.type) {
    case 'srv_init_start':
      send({ type: 'clt_init_received', inReplyTo })
      break
    case 'srv_init_changes':
      apply(message.changes)
      send({ type: 'clt_init_received', table: message.sequence.table, chunk: message.sequence.chunk, inReplyTo })
      break
    case 'srv_init_complete':
      position = message.serverLSN
      send({ type: 'clt_init_processed', inReplyTo })
      break
    case 'srv_catchup_changes':
      apply(message.changes)
      position = message.lastLSN
      send({ type: 'clt_catchup_received', chunk: message.sequence.chunk, lsn: message.lastLSN, inReplyTo })
      break
    case 'srv_changes_applied':
      written = message
      setTimeout(finish, 300) // an echo would come at once
      break
    case 'srv_live_changes':
      apply(message.changes)
      if (toWrite) echoes += message.changes.filter(({ data }) => data.id === JSON.parse(toWrite)[0].data.id).length
      position = message.lastLSN
      send({ type: 'clt_changes_received', changeIds: message.changes.map(({ data }) => data.id), lastLSN: position })
      finish()
      break
    case 'srv_catchup_completed':
    case 'srv_live_start':
      position = message.finalLSN
      if (toWrite && !written) send({ type: 'clt_send_changes', changes: JSON.parse(toWrite) })
      else finish()
      break
    case 'srv_error':
      console.error(message.message)
  }
})
socket.addEventListener('error', () => process.exit(1))
setTimeout(() => process.exit(2), 60_000).unref()
