// One request per line on stdin, one answer per line on stdout, so that Python can steer a long-lived Node process.
//
// Request  {"id":1,"op":"push",...}          Answer  {"id":1,"value":...} or {"id":1,"error":{"_tag":...}}
// Anything that happens by itself (a page on a live pull) is a line without an id: {"stream":"s1",...}
import { createInterface } from 'node:readline'

// The clients log to the console; stdout belongs to the protocol.
for (const method of ['log', 'info', 'debug', 'warn', 'trace', 'group', 'groupCollapsed', 'groupEnd']) {
  console[method] = console.error
}

/** An expected refusal: `detail` is handed to the caller as it is. */
export class OperationFailed extends Error {
  constructor(detail) {
    super(detail._tag)
    this.detail = detail
  }
}

export const emit = (line) => process.stdout.write(`${JSON.stringify(line)}\n`)

const describe = (error) =>
  error instanceof OperationFailed ? error.detail : { _tag: 'DriverError', message: String(error?.stack ?? error) }

/** Serves `operations` (name → async function of the request) until stdin ends; requests run concurrently. */
export const serve = (operations) => {
  process.on('unhandledRejection', (reason) => console.error('unhandled rejection', reason))
  createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })
    .on('line', async (line) => {
      const { id, op, ...request } = JSON.parse(line)
      try {
        if (operations[op] === undefined) throw new Error(`unknown operation ${op}`)
        emit({ id, value: (await operations[op](request)) ?? null })
      } catch (error) {
        emit({ id, error: describe(error) })
      }
    })
    .on('close', () => process.exit(0))
  emit({ ready: true })
}
