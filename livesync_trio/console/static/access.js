// Decisions about clients, step by step, and the check that a WebSocket gets through from this browser.
'use strict'
;(() => {
  const { one, make, ask, doneWith } = Console
  doneWith.explain = (answer) => {
    const place = one('#explained')
    const steps = make('ol', '', 'steps')
    for (const { step, outcome, meaning } of answer.steps) {
      const line = make('li', '', outcome.replace('not asked for', 'unasked'))
      line.append(make('b', step), ` ${outcome}. ${meaning}`)
      steps.append(line)
    }
    const who = answer.user ? `, as user ${answer.user}` : ''
    place.replaceChildren(make('p', answer.may === 'nothing' ? 'It may not connect.' : `It may ${answer.may}${who}.`, `verdict ${answer.may === 'nothing' ? 'ill' : 'well'}`), steps)
  }
  doneWith.token = (answer) => {
    const made = one('#made')
    made.textContent = answer.token
    made.hidden = false
    one('#explain [name=token]').value = answer.token
  }

  const PROXIES = 'nginx needs: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; Apache: ProxyPass with upgrade=websocket. Caddy and Traefik need nothing.'
  const WAIT_MS = 10_000
  const socket = (url, ping) => new Promise((resolve) => {
    let opened = false
    const began = performance.now()
    const finish = (outcome) => { clearTimeout(timer); found.close(); resolve({ opened, ms: Math.round(performance.now() - began), ...outcome }) }
    const found = new WebSocket(url)
    const timer = setTimeout(() => finish({ ok: false, why: 'silent' }), WAIT_MS)
    found.onopen = () => { opened = true; found.send(ping) }
    found.onmessage = () => finish({ ok: true })
    found.onclose = (event) => finish({ ok: false, why: event.reason || `closed with ${event.code}`, code: event.code })
  })
  const told = (list, outcome, text) => list.append(make('li', text, outcome))

  const check = async (form) => {
    const list = one('#checked')
    list.replaceChildren()
    const { url, socket: base, store } = form.dataset
    const token = one('#check-token')?.value.trim()
    const query = new URLSearchParams({ storeId: store, transport: 'ws' })
    if (token) query.set('payload', JSON.stringify({ authToken: token }))
    if (location.protocol === 'https:' && base.startsWith('ws:')) {
      told(list, 'refused', 'This page came by https, so the browser lets it open wss: URLs only. Give the https: URL of the server.')
      return
    }
    const known = await ask('/api/v1/connections/lost').catch(() => null)
    const found = await socket(`${base}/?${query}`, JSON.stringify({ _tag: 'Ping' }))
    if (found.ok) {
      told(list, 'passed', `A WebSocket opened and the server answered a ping after ${found.ms} ms. Apps get through.`)
      return
    }
    told(list, 'refused', found.opened ? `A WebSocket opened, but the answer to a ping did not come: ${found.why}.` : 'No WebSocket could be opened.')
    if (found.opened) {
      told(list, 'refused', 'Something between here and the server cuts WebSockets: raise the idle limit of the proxy, or switch off its buffering.')
      return
    }
    // The browser is told nothing of a handshake that failed; the server remembers what it lacked.
    const lost = known && (await ask(`/api/v1/connections/lost?after=${known.total}`).catch(() => null))?.lost.find((each) => store.startsWith(each.storeId))
    if (lost) {
      told(list, 'passed', 'The request for a WebSocket reached the server.')
      told(list, 'refused', `On the way it lost ${lost.missing.length > 1 ? 'the headers' : 'the header'} ${lost.missing.join(' and ')}. Set the proxy in front so that it passes WebSockets on. ${PROXIES}`)
      return
    }
    // The same address asked as an ordinary request: its answer says how far it got, and what is missing.
    let answer
    try {
      answer = await fetch(`${url}/?${query}`)
    } catch {
      told(list, 'refused', `${url} gives no answer that this page may read: nothing listens there, the certificate is not trusted, or pages of ${location.origin} may not use the server (LIVESYNC_CORS_ORIGINS).`)
      return
    }
    const text = (await answer.text()).slice(0, 300)
    if (answer.status === 426) {
      told(list, 'passed', 'An ordinary request gets through to the server, and would be let in.')
      told(list, 'refused', `The WebSocket does not: something in between answers in the server's place. ${PROXIES}`)
    } else {
      told(list, 'refused', `The server, or a proxy, answered ${answer.status}: ${text}`)
    }
  }
  document.addEventListener('submit', (event) => {
    if (event.target.id !== 'check') return
    event.preventDefault()
    check(event.target)
  })
  document.addEventListener('click', async (event) => {
    if (event.target.id !== 'check-make') return
    const store = one('#check').dataset.store
    try { one('#check-token').value = (await ask('/api/v1/access/token', { user: 'developer', stores: [store] })).token } catch (error) { Console.say(error.message) }
  })
})()
