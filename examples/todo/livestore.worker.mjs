// Keeps the list in the browser and syncs it, in a thread of its own.
import { makeWorker } from '@livestore/adapter-web/worker'
import { makeWsSync } from '@livestore/sync-cf/client'

import { schema } from './schema.mjs'

const url = import.meta.env.VITE_SYNC_URL ?? 'ws://127.0.0.1:8000'

makeWorker({ schema, sync: { backend: makeWsSync({ url }), initialSyncOptions: { _tag: 'Blocking', timeout: 5_000 } } })
