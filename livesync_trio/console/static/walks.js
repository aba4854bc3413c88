// A whole log, checked or exported while this page is open: how far it is, and a button that stops it.
'use strict'
;(() => {
  const { root, one, make, plain, size } = Console

  // What the server sends, part by part. Throws with its words when it refuses.
  const parts = async function* (path, signal) {
    const answer = await fetch(root + path, { signal })
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error?.message ?? `The server answered ${answer.status}.`)
    const reader = answer.body.getReader()
    for (let got = await reader.read(); !got.done; got = await reader.read()) yield got.value
  }

  const verify = async (path, signal, progress) => {
    const text = new TextDecoder()
    let pending = ''
    for await (const part of parts(path, signal)) {
      pending += text.decode(part, { stream: true })
      const messages = pending.split('\n\n')
      pending = messages.pop()
      for (const message of messages) {
        const told = JSON.parse(message.slice(message.indexOf('data: ') + 6))
        if (!message.startsWith('event: verdict')) progress(told.done)
        else if (told.problem) throw new Error(told.problem)
        else return `The log is whole: ${Console.counted(told.events, 'event')} up to e${told.head}.`
      }
    }
    throw new Error('The server stopped before it had looked at everything.')
  }

  const save = async (path, signal, progress, name) => {
    const kept = []
    let lines = 0
    let bytes = 0
    for await (const part of parts(path, signal)) {
      kept.push(part)
      bytes += part.length
      for (const byte of part) if (byte === 10) lines += 1
      progress(lines)
    }
    const file = new Blob(kept, { type: 'application/jsonl' })
    if (!(await file.slice(-400).text()).includes('"endOfFile":true')) throw new Error('The export ended early, so nothing was saved. The log of the server says why.')
    const link = make('a')
    link.href = URL.createObjectURL(file)
    link.download = `${name}.jsonl`
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
    return `Saved: ${Console.counted(lines - 3, 'event')}, ${size(bytes)}.`
  }

  document.addEventListener('submit', async (event) => {
    const form = event.target
    if (!form.dataset.walk) return
    event.preventDefault()
    const { walk, store, total } = form.dataset
    const [output, bar, begin, stop] = ['output', 'progress', 'button[type=submit]', 'button[type=button]'].map((each) => one(each, form))
    const ends = new AbortController()
    const stopped = () => ends.abort()
    stop.addEventListener('click', stopped)
    bar.max = Math.max(1, Number(total))
    bar.value = 0
    output.className = ''
    for (const [element, hidden] of [[bar, false], [stop, false], [begin, true]]) element.hidden = hidden
    stop.focus()
    const progress = (done) => { bar.value = done; output.textContent = `${plain(Math.min(done, Number(total)))} of ${Console.counted(Number(total), 'event')}` }
    progress(0)
    try {
      const path = `/api/v1/store/${walk}?${new URLSearchParams({ storeId: store })}`
      output.textContent = await (walk === 'verify' ? verify : save)(path, ends.signal, progress, store)
      output.className = 'done'
    } catch (error) {
      output.className = 'refused'
      output.textContent = ends.signal.aborted ? 'Cancelled.' : error instanceof TypeError ? 'The server does not answer.' : error.message
    } finally {
      stop.removeEventListener('click', stopped)
      for (const [element, hidden] of [[bar, true], [stop, true], [begin, false]]) element.hidden = hidden
      begin.focus()
    }
  })
})()
