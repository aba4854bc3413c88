// A WebSocket class that remembers what each socket did first and how it ended.
//
// The real clients do not tell how often they reconnected, which frame they sent first or which close code they got;
// scenarios about restarts and orphaned pulls (SPEC 3.6) have to know, so the driver notes it at the socket itself. There
// it can also send one frame of its own before the client's first, on the next socket whose URL contains a marker.

const REMEMBERED_FRAMES = 4
const REMEMBERED_CHARACTERS = 300

export const recordingWebSocket = (WebSocket) => {
  const records = []
  const injections = new Map()
  class RecordingWebSocket extends WebSocket {
    constructor(url, ...rest) {
      super(url, ...rest)
      this.record = { url: String(url), opened: false, sent: [], closing: null, closed: null }
      records.push(this.record)
      this.on('open', () => {
        this.record.opened = true
        for (const [marker, frame] of injections) {
          if (this.record.url.includes(marker) === false) continue
          injections.delete(marker)
          this.send(frame)
        }
      })
      this.on('close', (code, reason) => { this.record.closed = { code, reason: reason.toString() } })
    }
    // The client gave up; the `close` event comes only when the server has answered, or after 30 s.
    close(code, ...rest) {
      this.record.closing ??= { code: code ?? null }
      return super.close(code, ...rest)
    }
    send(data, ...rest) {
      if (this.record.sent.length < REMEMBERED_FRAMES) {
        this.record.sent.push(String(data).slice(0, REMEMBERED_CHARACTERS))
      }
      return super.send(data, ...rest)
    }
  }
  return { RecordingWebSocket, records, injections }
}
