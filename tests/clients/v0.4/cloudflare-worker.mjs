// The reference of generation 0.4, both ways in which it keeps events: in its Durable Object, and (below /d1) in D1.
import { makeDurableObject, makeWorker } from '@livestore/sync-cf/cf-worker'

export class InObject extends makeDurableObject({}) {}
export class InD1 extends makeDurableObject({ storage: { _tag: 'd1', binding: 'DB' } }) {}

const inObject = makeWorker({ syncBackendBinding: 'IN_OBJECT' })
const inD1 = makeWorker({ syncBackendBinding: 'IN_D1' })

export default {
  fetch: (request, env, ctx) =>
    (new URL(request.url).pathname.startsWith('/d1') ? inD1 : inObject).fetch(request, env, ctx),
}
