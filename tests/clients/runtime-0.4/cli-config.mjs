// What LiveStore's own command line is told of the application: its schema, and where the sync server is.
import WebSocket from 'ws'

// Node 20 has no WebSocket of its own and the client reads the global one.
globalThis.WebSocket ??= WebSocket

const { makeWsSync } = await import('@livestore/sync-cf/client')

export { schema } from './schema.mjs'
export const syncBackend = makeWsSync({ url: process.env.SYNC_URL })
export const syncPayload = JSON.parse(process.env.SYNC_PAYLOAD ?? 'null') ?? undefined
