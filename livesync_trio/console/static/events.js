// Events: args as a tree, choosing two to compare, the live tail.
'use strict'
;(() => {
  const { one, all, make, onShow, say, root } = Console
  const MEMBERS_MAX = 500
  const ROWS_MAX = 500

  // --- trees: built as they are opened, so that a large value costs nothing before it is looked at
  class Written { constructor(text) { this.text = text } }
  // Numbers that JavaScript cannot hold are shown as they were written.
  const parsed = (text) => JSON.parse(text, (_key, value, context) =>
    (typeof value === 'number' && context?.source && String(value) !== context.source ? new Written(context.source) : value))
  const leaf = (value) => {
    if (value instanceof Written) return make('span', value.text, 'other')
    return typeof value === 'string' ? make('span', JSON.stringify(value), 'string') : make('span', String(value), 'other')
  }
  const branch = (key, value, open, depth = 0) => {
    const name = key === null ? [] : [make('span', key, 'key'), ': ']
    if (value === null || typeof value !== 'object' || value instanceof Written) {
      const line = make('div')
      line.append(...name, leaf(value))
      return line
    }
    const members = Object.entries(value)
    const node = make('details')
    const summary = make('summary')
    summary.append(...name, make('span', Array.isArray(value) ? `[${members.length}]` : `{${members.length}}`, 'count'))
    node.append(summary)
    const fill = () => {
      if (node.children.length > 1) return
      const list = make('ul')
      for (const [member, inner] of members.slice(0, MEMBERS_MAX)) {
        const item = make('li')
        item.append(branch(member, inner, depth > 0, Math.max(0, depth - 1)))
        list.append(item)
      }
      if (members.length > MEMBERS_MAX) list.append(make('li', `… ${members.length - MEMBERS_MAX} more`, 'count'))
      node.append(list)
    }
    node.addEventListener('toggle', fill)
    if (open) { node.open = true; fill() }
    return node
  }
  const trees = () => {
    for (const box of all('[data-json]:not([data-shown])')) {
      box.dataset.shown = ''
      const text = one('pre', box)
      let value
      try { value = parsed(text.textContent) } catch { continue } // it was cut: the text alone
      if (value === null || typeof value !== 'object') continue
      const tree = make('div', '', 'tree')
      tree.tabIndex = 0
      tree.append(branch(null, value, true, text.textContent.length < 3000 ? 3 : 0))
      const toggle = make('button', 'as text', 'quiet')
      toggle.type = 'button'
      toggle.addEventListener('click', () => {
        text.hidden = !text.hidden
        tree.hidden = !tree.hidden
        toggle.textContent = text.hidden ? 'as text' : 'as a tree'
      })
      text.hidden = true
      box.append(tree)
      one('.tools', box).append(toggle)
    }
  }

  // --- two events to compare
  document.addEventListener('change', (event) => {
    const form = event.target.closest('#compare')
    if (!form) return
    event.stopPropagation()
    const chosen = all('input[type=checkbox]:checked', form)
    if (chosen.length > 2) { event.target.checked = false; say('Two events are compared: clear one first.') }
    one('#diff').disabled = chosen.length !== 2
  })
  document.addEventListener('submit', (event) => {
    if (event.target.id !== 'compare') return
    event.preventDefault()
    const [a, b] = all('input[type=checkbox]:checked', event.target).map((box) => Number(box.value)).sort((x, y) => x - y)
    const query = new URLSearchParams({ storeId: event.target.elements.storeId.value, a, b })
    location.href = `${event.target.action.split('?')[0]}?${query}`
  })

  // --- the live tail
  const tail = () => {
    const box = one('#tail')
    if (!box || box.dataset.shown !== undefined) return
    box.dataset.shown = ''
    const store = box.dataset.store
    const rows = one('#tail-rows')
    const state = one('#tail-state')
    const pause = one('#pause')
    const filter = one('#tail-filter')
    let last = Number(box.dataset.head)
    let identity = null
    let seen = 0
    let waiting = []
    let times = []

    const row = (event) => {
      const line = make('tr', '', 'fresh')
      const link = make('a', String(event.seqNum))
      link.href = `${root}/store/event?${new URLSearchParams({ storeId: store, seqNum: event.seqNum })}`
      const number = make('td', '', 'n')
      number.append(link)
      const time = make('time', event.createdAt)
      time.dateTime = event.createdAt
      const stored = make('td')
      stored.append(time)
      line.append(number, make('td', event.name, 'mono'), make('td', (JSON.stringify(event.args) ?? '').slice(0, 300), 'args mono'),
        make('td', event.clientId, 'mono short'), make('td', event.sessionId, 'mono short'), stored)
      Console.showTimes(line)
      return line
    }
    const paused = () => pause.getAttribute('aria-pressed') === 'true'
    const tell = () => {
      const now = Date.now()
      times = times.filter((at) => at > now - 10_000)
      const rate = (times.length / 10).toFixed(1)
      const held = waiting.length ? `, ${waiting.length}${waiting.length === ROWS_MAX ? ' or more' : ''} waiting` : ''
      state.textContent = `${Console.counted(seen, 'event')}, ${rate}/s${held}${paused() ? ', paused' : ''}`
    }
    const flush = () => {
      const wanted = filter.value.toLowerCase()
      const fresh = waiting.filter((event) => event.name.toLowerCase().includes(wanted)).slice(-ROWS_MAX).reverse().map(row)
      waiting = []
      rows.prepend(...fresh)
      while (rows.children.length > ROWS_MAX) rows.lastChild.remove()
      one('#tail-empty').hidden = !!rows.children.length
    }
    let drawing = false
    const come = (event, id) => {
      last = Number(id || event.seqNum)
      seen += 1
      times.push(Date.now())
      if (times.length > 5000) times.splice(0, 2500)
      waiting.push(event)
      if (waiting.length > ROWS_MAX) waiting.shift()
      if (drawing) return
      drawing = true
      setTimeout(() => { drawing = false; if (!paused()) flush(); tell() }, 120) // many at once: one redraw
    }
    const log = (told) => {
      if (identity !== null && identity !== told.backendId) {
        rows.replaceChildren(Object.assign(make('tr'), {}))
        rows.replaceChildren()
        say('The store was reset: its log begins anew.')
        last = 0
      }
      identity = told.backendId
      tell()
    }
    pause.addEventListener('click', () => {
      pause.setAttribute('aria-pressed', String(!paused()))
      pause.textContent = paused() ? 'Go on' : 'Pause'
      if (!paused()) flush()
      tell()
    })
    filter.addEventListener('input', () => {
      for (const line of rows.children) line.hidden = !line.children[1].textContent.toLowerCase().includes(filter.value.toLowerCase())
    })
    setInterval(() => { if (box.isConnected) tell() }, 2000)
    const mark = one('#state')
    Console.stream({
      path: () => `/api/v1/store/tail?${new URLSearchParams({ storeId: store, after: last })}`,
      on: {
        message: come,
        store: (told) => { mark.className = 'state well'; one('.word', mark).textContent = 'following'; log(told) },
        reset: log,
        trouble: (told) => say(told.message),
      },
    })
  }
  onShow(() => { trees(); tail() })
})()
