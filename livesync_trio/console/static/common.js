// What all screens share: times, copying, requests to the API, parts that refresh. Texts of others are only ever textContent.
'use strict'
const Console = (() => {
  const meta = (name) => document.querySelector(`meta[name=${name}]`)?.content ?? ''
  const root = meta('root')
  const one = (selector, within = document) => within.querySelector(selector)
  const all = (selector, within = document) => [...within.querySelectorAll(selector)]
  const make = (tag, text = '', kind = '') => {
    const element = document.createElement(tag)
    if (text !== '') element.textContent = text
    if (kind) element.className = kind
    return element
  }
  const kept = (name, value) => {
    try {
      if (value === undefined) return localStorage.getItem(name)
      localStorage.setItem(name, value)
    } catch { /* no storage */ }
    return null
  }
  let silence
  const say = (text) => {
    const said = one('#said')
    if (!said) return
    said.textContent = text
    clearTimeout(silence)
    silence = setTimeout(() => { said.textContent = '' }, 6000)
  }

  // --- times: in the reader's zone, with UTC at hand
  const two = (number) => String(number).padStart(2, '0')
  const written = (at, utc) => {
    const of = (part) => at[`get${utc ? 'UTC' : ''}${part}`]()
    return `${of('FullYear')}-${two(of('Month') + 1)}-${two(of('Date'))} ${two(of('Hours'))}:${two(of('Minutes'))}:${two(of('Seconds'))}`
  }
  const showTimes = (within = document) => {
    const utc = kept('zone') === 'utc'
    for (const time of all('time', within)) {
      const at = new Date(time.dateTime)
      if (Number.isNaN(at.getTime())) continue
      time.textContent = written(at, utc)
      time.title = utc ? `${written(at, false)} in your zone` : `${time.dateTime} (UTC)`
    }
    const zone = one('#zone')
    if (zone) zone.textContent = utc ? 'times in UTC' : `times in ${Intl.DateTimeFormat().resolvedOptions().timeZone}`
  }

  // --- requests
  const ask = async (path, body) => {
    let answer
    try {
      answer = await fetch(root + path, body === undefined ? {} : {
        method: 'POST', body: JSON.stringify(body),
        headers: { 'content-type': 'application/json', 'x-csrf-token': meta('csrf') },
      })
    } catch {
      throw new Error('The server does not answer.')
    }
    const told = await answer.json().catch(() => ({}))
    if (answer.ok) return told
    if (answer.status === 401) throw new Error('You are signed out. Sign in again, then repeat this.')
    throw new Error(told.error?.message ?? `The server answered ${answer.status}.`)
  }
  const typed = (field) => {
    const text = field.value.trim()
    switch (field.dataset.type) {
      case 'json': return JSON.parse(text)
      case 'number': return Number(text)
      case 'numbers': return text.split(/[\s,]+/).filter(Boolean).map(Number)
      case 'list': return text.split(',').map((part) => part.trim()).filter(Boolean)
      default: return field.name === 'token' ? text : field.value // a password is as it was typed
    }
  }
  const bodyOf = (form) => Object.fromEntries(
    [...form.elements].filter((field) => field.name && field.value !== '').map((field) => [field.name, typed(field)]))

  const refresh = (part) => htmx.ajax('GET', location.pathname + location.search,
    part ? { target: part, select: '[data-refresh]', swap: 'outerHTML' } : { target: '#content', swap: 'innerHTML' })

  const doneWith = {
    refresh: () => refresh(),
    made: (answer) => { const made = one('#made'); made.textContent = `${answer.token}\nThis is shown once.`; made.hidden = false },
    go: (answer, path) => { location.href = root + path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(answer[name])) },
    say: (answer, text, out) => { (out ?? {}).textContent = text.replace(/\{(\w+)\}/g, (_, name) => answer[name]); if (!out) say(text) },
    answer: (answer) => say(Object.entries(answer).map(([name, value]) => `${name}: ${value}`).join(', ')),
  }
  const act = async (element, body, out) => {
    const button = element.matches('form') ? one('button:not([type=button])', element) : element
    if (element.dataset.ask && !window.confirm(element.dataset.ask)) return
    button.disabled = true
    if (out) { out.className = ''; out.textContent = '…' }
    try {
      const answer = await ask(element.dataset.api, body())
      if (out) { out.className = 'done'; out.textContent = '' }
      const [kind, ...rest] = element.dataset.done.split(':')
      await doneWith[kind](answer, rest.join(':'), out, element)
    } catch (error) {
      const text = error instanceof SyntaxError ? `This is not JSON: ${error.message}` : error.message
      if (out) { out.className = 'refused'; out.textContent = text } else say(text)
    } finally {
      button.disabled = false
    }
  }
  document.addEventListener('submit', (event) => {
    const form = event.target
    if (!form.matches('form[data-api]')) return
    event.preventDefault()
    act(form, () => bodyOf(form), one('output', form))
  })

  // --- clicks
  const copied = async (text) => {
    try { await navigator.clipboard.writeText(text); say('Copied.') } catch { say('This browser does not let a page copy.') }
  }
  document.addEventListener('click', (event) => {
    const button = event.target.closest('button')
    if (!button) return
    if (button.dataset.copy !== undefined) copied(button.dataset.copy)
    else if (button.dataset.copyOf) copied(one(button.dataset.copyOf, button.closest('.json, .snippet')).textContent)
    else if (button.dataset.api && button.type === 'button') act(button, () => JSON.parse(button.dataset.body ?? '{}'))
    else if (button.dataset.secret) one(button.dataset.secret).value = `whsec_${btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(24))))}`
    else if (button.id === 'zone') { kept('zone', kept('zone') === 'utc' ? 'local' : 'utc'); showTimes() }
    else if (button.id === 'theme') switchTheme()
  })
  const dark = () => (document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark'
  const nameTheme = () => { const button = one('#theme'); if (button) button.textContent = dark() ? 'dark theme' : 'light theme' }
  const switchTheme = () => {
    const theme = dark() ? 'light' : 'dark'
    document.documentElement.dataset.theme = theme
    kept('theme', theme)
    nameTheme()
    document.dispatchEvent(new Event('theme'))
  }
  document.addEventListener('keydown', (event) => {
    if (event.key === '/' && !event.target.closest('input, textarea, select') && !event.ctrlKey && !event.metaKey) {
      const field = one('main input[type=search]')
      if (field) { event.preventDefault(); field.focus(); field.select() }
    }
  })

  const size = (bytes) => {
    const units = ['B', 'kB', 'MB', 'GB', 'TB']
    let unit = 0
    while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; unit += 1 }
    return `${bytes >= 100 || unit === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`
  }

  const plain = (value) => (value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString('en').replaceAll(',', '\u202f') : value.toFixed(value < 1 ? 2 : 1))

  const counted = (count, thing) => `${plain(count)} ${thing}${count === 1 ? '' : 's'}`

  // A colour as the canvas of a plot takes it: variables know the theme, the canvas does not.
  const colour = (name) => {
    const probe = make('i')
    probe.style.color = `var(${name})`
    document.body.append(probe)
    const found = getComputedStyle(probe).color
    probe.remove()
    return found
  }

  const starts = []
  const onShow = (start) => starts.push(start)
  const shown = (within) => { showTimes(within); for (const start of starts) start(within) }
  // Where there is no room for all of them, the names of screens scroll sideways.
  const showWhereWeAre = () => document.querySelectorAll('nav [aria-current]').forEach((link) => link.scrollIntoView({ block: 'nearest', inline: 'center' }))
  document.addEventListener('DOMContentLoaded', () => { nameTheme(); showWhereWeAre(); shown(document) })
  document.addEventListener('htmx:afterSwap', (event) => shown(event.detail.target.isConnected ? event.detail.target : document))
  document.addEventListener('htmx:responseError', (event) => {
    const status = event.detail.xhr.status
    if (status === 401) say('You are signed out. Load this page again to sign in.')
    else { one('#content').innerHTML = ''; location.reload() } // the page itself says what is wrong
  })
  document.addEventListener('htmx:sendError', () => say('The server does not answer.'))

  return { root, one, all, make, kept, say, ask, refresh, doneWith, onShow, showTimes, size, plain, counted, colour, written }
})()
