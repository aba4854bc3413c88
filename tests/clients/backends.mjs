// The operations both client generations offer to Python: open a sync backend, push, pull, follow, close.
//
// `effect` is the generation's own Effect library; `generation` says how its client is made and pulled from.
import { emit, OperationFailed } from './json-lines.mjs'

export const backendOperations = ({ effect, generation, sockets }) => {
  const { Cause, Effect, Exit, Fiber, Option, Scope, Stream, SubscriptionRef } = effect
  const backends = new Map()
  const streams = new Map()

  const describeCause = (cause) => {
    const failure = Option.getOrUndefined(Cause.failureOption(cause))
    const pretty = Cause.pretty(cause).slice(0, 4000)
    if (failure === undefined) return { _tag: Cause.isInterruptedOnly(cause) ? 'Interrupted' : 'Defect', pretty }
    // What a server said is the `message` of the error's cause (0.4) or reason (0.3).
    const message = failure.cause?.message ?? failure.reason?.message ?? failure.message
    const fields = JSON.parse(JSON.stringify(failure))
    return { ...fields, stack: undefined, _tag: failure._tag, message: String(message), pretty }
  }

  const run = async (program) => {
    const exit = await Effect.runPromiseExit(generation.provide(program))
    if (Exit.isSuccess(exit)) return exit.value
    throw new OperationFailed(describeCause(exit.cause))
  }

  // `args` travels as the text JSON.stringify makes of it: Python's json would not keep JavaScript's numbers.
  const describeItem = (item) => ({
    remaining: generation.remaining(item),
    events: item.batch.map(({ eventEncoded: { args, ...event }, metadata }) => ({
      ...event,
      args: JSON.stringify(args) ?? null,
      createdAt: Option.getOrUndefined(metadata)?.createdAt ?? null,
    })),
  })

  // `argsText` is JSON text, for what Python's json would not keep; without it and `args` the client pushes undefined.
  const makeEvent = ({ argsText, ...event }) => (argsText === undefined ? event : { ...event, args: JSON.parse(argsText) })

  const lastSeqNum = (item, otherwise) => item.batch.at(-1)?.eventEncoded.seqNum ?? otherwise

  const open = async (spec) => {
    const scope = await run(Scope.make())
    const memory = new Map(spec.backendId === undefined ? [] : [['backendId', spec.backendId]])
    const backend = await run(generation.make(spec, memory).pipe(Scope.extend(scope)))
    return { spec, scope, backend, memory }
  }

  const close = ({ scope }) => run(Scope.close(scope, Exit.void))

  // What the leader does (LeaderSyncProcessor): a pull that ended with IsOfflineError is pulled again at once.
  const follow = (entry, { stream, cursor, resume }) => {
    const position = { cursor: cursor ?? null }
    const onItem = (item) =>
      Effect.sync(() => {
        position.cursor = lastSeqNum(item, position.cursor)
        emit({ stream, item: describeItem(item) })
      })
    const pullOnce = Effect.suspend(() => generation.pullLive(entry.backend, position.cursor)).pipe(
      Stream.unwrap,
      Stream.runForEach(onItem),
      Effect.tapErrorCause((cause) => Effect.sync(() => emit({ stream, failure: describeCause(cause) }))),
    )
    const program = resume === true
      ? pullOnce.pipe(Effect.retry({ while: (error) => error._tag === 'IsOfflineError' }))
      : pullOnce
    const fiber = Effect.runFork(generation.provide(program))
    fiber.addObserver((exit) => {
      emit({ stream, end: Exit.isSuccess(exit) ? { _tag: 'Success' } : describeCause(exit.cause) })
    })
    streams.set(stream, fiber)
  }

  return {
    open: async ({ backend, ...spec }) => { backends.set(backend, await open(spec)) },
    close: async ({ backend }) => {
      const entry = backends.get(backend)
      backends.delete(backend)
      if (entry !== undefined) await close(entry)
    },
    connect: async ({ backend }) => {
      const entry = backends.get(backend)
      await run(Effect.scoped(entry.backend.connect))
      return run(SubscriptionRef.get(entry.backend.isConnected))
    },
    ping: async ({ backend }) => run(backends.get(backend).backend.ping),
    isConnected: async ({ backend }) => run(SubscriptionRef.get(backends.get(backend).backend.isConnected)),
    identity: async ({ backend }) => backends.get(backend).memory.get('backendId') ?? null,
    push: async ({ backend, batch }) => { await run(backends.get(backend).backend.push(batch.map(makeEvent))) },
    pull: async ({ backend, cursor }) => {
      const items = await generation.pullHistory({ run, open, close, entry: backends.get(backend), cursor })
      return items.map(describeItem)
    },
    follow: async ({ backend, ...request }) => follow(backends.get(backend), request),
    stop: async ({ stream }) => { await run(Fiber.interrupt(streams.get(stream))) },
    normalize: async ({ text }) => JSON.stringify(JSON.parse(text)),
    injectFirstFrame: async ({ marker, frame }) => { sockets.injections.set(marker, frame) },
    sockets: async ({ marker }) => sockets.records.filter(({ url }) => url.includes(marker)),
  }
}
