// The plots of the overview: what the server kept of the last 15 minutes, and a value more each second.
'use strict'
;(() => {
  const { one, all, make, ask, onShow, size, plain, colour, live } = Console
  const SPAN_S = 900
  const COLOURS = ['--plot-1', '--plot-2', '--plot-3', '--plot-4', '--plot-5']
  const UNITS = {
    '/s': (value) => `${plain(value)}/s`,
    ms: (value) => `${plain(value)} ms`,
    '%': (value) => `${plain(value)} %`,
    B: size,
    'B/s': (value) => `${size(value)}/s`,
    count: (value) => String(value),
  }
  let plots = []
  let columns = []
  let rows = []

  const draw = (figure) => {
    const series = figure.dataset.plot.split(',').map((part) => part.split(':'))
    const told = UNITS[figure.dataset.unit]
    const caption = one('figcaption', figure)
    for (const old of all('.legend, .canvas', figure)) old.remove()
    const legends = series.map(([, label], at) => {
      const legend = make('span', '', `legend s${at + 1}`)
      const value = make('b', '–')
      legend.append(make('i'), `${label} `, value)
      caption.append(legend)
      return { legend, value }
    })
    const canvas = make('div', '', 'canvas')
    figure.append(canvas)
    const line = colour('--line')
    const soft = colour('--soft')
    const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: '11px system-ui' }
    const plot = new uPlot({
      width: figure.clientWidth, height: 112, padding: [8, 2, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: 'overview' }, points: { size: 5 }, drag: { x: false, y: false } },
      scales: {
        x: { time: true, range: () => { const end = rows.at(-1)?.[0] ?? Date.now() / 1000; return [end - SPAN_S, end] } },
        y: { range: (_plot, least, most) => [0, most > 0 ? most * 1.12 : 1] },
      },
      axes: [
        { ...axis, size: 20, space: 90, values: (_plot, ticks) => ticks.map((at) => Console.written(new Date(at * 1000), Console.kept('zone') === 'utc').slice(11, 16)) },
        { ...axis, size: 58, space: 34, values: (_plot, ticks) => ticks.map(told) },
      ],
      series: [{}, ...series.map((_, at) => ({ stroke: colour(COLOURS[at]), width: 1.4, points: { show: false }, spanGaps: figure.dataset.unit === 'ms' }))],
      hooks: { setCursor: [() => name()] },
    }, [[], ...series.map(() => [])], canvas)
    const indices = series.map(([column]) => columns.indexOf(column))
    const name = () => {
      const at = plot.cursor.idx ?? rows.length - 1
      legends.forEach(({ legend, value }, which) => {
        let found = rows[at]?.[indices[which]]
        if (found == null && figure.dataset.unit === 'ms') found = rows.findLast((row) => row[indices[which]] != null)?.[indices[which]]
        value.textContent = found == null ? '–' : told(found)
      })
    }
    const update = () => {
      plot.setData([rows.map((row) => row[0]), ...indices.map((index) => rows.map((row) => row[index]))])
      legends.forEach(({ legend }, which) => { // of many lines, those that say nothing are left out
        const wanted = series.length < 3 || rows.some((row) => row[indices[which]])
        legend.hidden = !wanted
        if (plot.series[which + 1].show !== wanted) plot.setSeries(which + 1, { show: wanted })
      })
      name()
    }
    return { figure, plot, update, width: () => plot.setSize({ width: figure.clientWidth, height: 112 }) }
  }

  const refused = (counts) => {
    const table = one('#refusals')
    if (!table) return
    const body = one('tbody', table)
    body.replaceChildren(...Object.entries(counts).map(([kind, count]) => {
      const row = make('tr')
      row.append(make('td', kind, 'mono'), make('td', String(count), 'n'))
      return row
    }))
    table.hidden = !body.children.length
    one('#no-refusals').hidden = !!body.children.length
  }

  const load = async () => {
    const kept = await ask('/api/v1/series').catch(() => null)
    if (!kept || !one('[data-plot]')) return
    columns = kept.columns
    rows = kept.rows
    refused(kept.refusals)
    for (const { plot } of plots) plot.destroy()
    plots = all('[data-plot]').map(draw)
    for (const plot of plots) plot.update()
  }

  let before = 0
  live(async (told) => {
    if (!plots.length || !one('[data-plot]')) return
    if (told === null) { await load(); return } // the server is back: it may be another process
    if (!told.row || told.row[0] <= (rows.at(-1)?.[0] ?? 0)) return
    rows.push(told.row)
    rows = rows.filter((row) => row[0] > told.row[0] - SPAN_S - 1)
    for (const plot of plots) plot.update()
    if (told.row[columns.indexOf('refusals')] > 0 || Date.now() - before > 60_000) {
      before = Date.now()
      const now = Math.floor(told.row[0])
      refused((await ask(`/api/v1/series?after=${now}`).catch(() => ({ refusals: {} }))).refusals)
    }
  })
  onShow(() => { if (one('[data-plot]') && !one('.canvas')) { plots = []; load() } })
  document.addEventListener('theme', () => { if (plots.length) load() })
  new ResizeObserver(() => { for (const plot of plots) plot.width() }).observe(document.documentElement)
})()
