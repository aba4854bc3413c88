// The reference of generation 0.3 as its users set it up: events in D1.
import { makeDurableObject, makeWorker } from '@livestore/sync-cf/cf-worker'

export class WebSocketServer extends makeDurableObject({}) {}

export default makeWorker({ enableCORS: true })
