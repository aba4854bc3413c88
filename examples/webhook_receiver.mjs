// Receives webhooks: believes signed messages only, skips what it has, and answers when it has stored the rest.
//
//     WEBHOOK_SECRET=whsec_… node examples/webhook_receiver.mjs 9000
//
// Only Node itself is needed. The package `standardwebhooks` does what `check` does. Where `places` keeps what was stored in
// memory, keep it in your database, together with what you make of the events.

import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'

const SECRETS = process.env.WEBHOOK_SECRET.split(/\s+/).map((text) => Buffer.from(text.replace(/^whsec_/, ''), 'base64'))
const TOLERANCE_S = 300
const BODY_MAX_BYTES = 64 * 1024 * 1024

/** By store: the identity of its log, and the number of the last event we have. */
const places = new Map()

/** Whether a message was signed with one of our secrets, not long ago. */
const check = (headers, body) => {
  const id = headers['webhook-id'] ?? ''
  const timestamp = headers['webhook-timestamp'] ?? ''
  if (!/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_S) return false
  const wanted = SECRETS.map((secret) => createHmac('sha256', secret).update(`${id}.${timestamp}.`).update(body).digest())
  const given = (headers['webhook-signature'] ?? '')
    .split(' ')
    .filter((each) => each.startsWith('v1,'))
    .map((each) => Buffer.from(each.slice(3), 'base64'))
  return wanted.some((one) => given.some((other) => one.length === other.length && timingSafeEqual(one, other)))
}

/** Take what we do not have yet; throw to have it sent again. */
const store = ({ type, data }) => {
  if (type === 'store.reset') {
    places.set(data.storeId, { identity: data.backendId, known: 0 })
    console.log(`${data.storeId} begins anew`)
  } else if (type === 'store.deleted') {
    places.delete(data.storeId)
    console.log(`${data.storeId} is gone`)
  } else if (type === 'store.events') {
    const place = places.get(data.storeId)
    const known = place?.identity === data.backendId ? place.known : 0
    for (const event of data.events) {
      if (event.seqNum > known) {
        console.log(`${data.storeId} e${event.seqNum} ${event.name} ${JSON.stringify(event.args)}`)
      }
    }
    places.set(data.storeId, { identity: data.backendId, known: Math.max(known, data.upTo) })
  }
}

const server = createServer((request, response) => {
  const parts = []
  let size = 0
  request.on('data', (part) => {
    size += part.length
    if (size > BODY_MAX_BYTES) response.writeHead(413).end(() => request.destroy())
    else parts.push(part)
  })
  request.on('end', () => {
    const body = Buffer.concat(parts)
    if (!check(request.headers, body)) return response.writeHead(401).end()
    store(JSON.parse(body.toString('utf8')))
    response.writeHead(204).end()
  })
})
server.listen(Number(process.argv[2]), '127.0.0.1', () => {
  console.log(`receiving on http://127.0.0.1:${server.address().port}/`)
})
