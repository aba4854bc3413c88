// One stream of server-sent events for the page, while it can be seen. It says when the server is gone, and comes back by itself.
'use strict'
Console.stream = (() => {
  const { root, one } = Console
  let source = null
  let pause = 500
  let timer = null
  let lostAt = 0
  let current = null

  const banner = (text, back = false) => {
    const lost = one('#lost')
    lost.className = back ? 'back' : ''
    lost.textContent = text
    lost.hidden = !text
  }
  const close = () => { clearTimeout(timer); source?.close(); source = null }
  const alive = () => {
    pause = 500
    if (!lostAt) return
    lostAt = 0
    banner('The server is back.', true)
    setTimeout(() => { if (!lostAt) banner('') }, 3000)
    current?.back?.()
  }
  const lost = async () => {
    close()
    lostAt ||= Date.now()
    let text = 'The server does not answer. Trying again …'
    try {
      const answer = await fetch(`${root}/api/v1/info`)
      if (answer.status === 401) { banner('You are signed out. Load this page again to sign in.'); one('#lost').append(' '); return }
      if (!answer.ok) text = `The server answers ${answer.status}. Trying again …`
    } catch { /* it is not there */ }
    banner(text)
    timer = setTimeout(open, pause)
    pause = Math.min(pause * 1.6, 5000)
  }
  const open = () => {
    close()
    if (!current || document.hidden) return
    source = new EventSource(root + current.path())
    source.onopen = alive
    source.onerror = lost
    source.addEventListener('end', lost)
    for (const [name, handle] of Object.entries(current.on)) {
      source.addEventListener(name, (event) => { handle(JSON.parse(event.data), event.lastEventId) })
    }
  }
  document.addEventListener('visibilitychange', () => (document.hidden ? close() : open()))
  window.addEventListener('pagehide', close)
  // {path(), on: {name: handler}, back()}
  return (wanted) => { current = wanted; open() }
})()

// What each screen but the live tail listens to: the newest row of the series, and how the server is.
Console.live = (() => {
  const { one, all, onShow, refresh } = Console
  const listeners = []
  let startedAt = 0
  let ticks = 0
  let logLines = null

  const state = (told) => {
    const mark = one('#state')
    mark.className = `state ${told.status === 'ok' ? 'well' : 'ill'}`
    one('.word', mark).textContent = told.status === 'ok' ? `well, ${told.connections} connected` : told.status
    for (const place of all('[data-live-text]')) place.textContent = told[place.dataset.liveText]
  }
  const parts = () => {
    for (const part of all('[data-refresh]')) {
      const due = part.dataset.refresh === 'log' ? logLines : ticks % Number(part.dataset.refresh) === 0
      if (due && !part.contains(document.activeElement) && !String(getSelection()) && !/[?&](after|before)=/.test(location.search)) refresh(part)
    }
  }
  const message = (told) => {
    if (startedAt && told.startedAt > startedAt + 2) refresh() // another process: what the page shows is of the one before
    startedAt = told.startedAt
    ticks += 1
    const news = logLines !== null && told.logLines !== logLines
    state(told)
    for (const listener of listeners) listener(told)
    const known = told.logLines
    logLines = news
    parts()
    logLines = known
  }
  let begun = false
  onShow(() => {
    if (begun || one('#tail') || !document.body.dataset.screen) return
    begun = true
    Console.stream({ path: () => '/api/v1/series/live', on: { message }, back: () => { for (const listener of listeners) listener(null) } })
  })
  return (listener) => listeners.push(listener)
})()
