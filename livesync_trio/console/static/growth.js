// How a store grew: a line of events over time.
'use strict'
;(() => {
  const { one, make, onShow, plain, colour, written, kept } = Console
  const WHOLE = [1, 2, 5].flatMap((digit) => [...Array(10).keys()].map((zeros) => digit * 10 ** zeros)).sort((a, b) => a - b)
  const SECONDS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, ...[1, 2, 7, 14, 30, 90, 180, 365].map((days) => days * 86_400)]
  let plot = null
  const draw = () => {
    const figure = one('[data-growth]')
    plot?.destroy()
    plot = null
    if (!figure) return
    const points = JSON.parse(figure.dataset.growth)
    const told = one('figcaption b', figure)
    const canvas = one('.canvas', figure) ?? make('div', '', 'canvas')
    figure.append(canvas)
    const utc = kept('zone') === 'utc'
    const axis = { stroke: colour('--soft'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui' }
    const days = points.at(-1)[0] - points[0][0] > 86_400
    const rest = `${Console.counted(points.at(-1)[1], 'event')}`
    told.textContent = rest
    plot = new uPlot({
      width: figure.clientWidth, height: 240, padding: [8, 2, 0, 0], legend: { show: false },
      cursor: { points: { size: 6 }, drag: { x: false, y: false } },
      scales: { x: { time: true }, y: { range: (_plot, _least, most) => [0, most * 1.08] } },
      axes: [
        { ...axis, size: 20, space: 110, incrs: SECONDS, values: (_plot, ticks) => ticks.map((at) => { const text = written(new Date(at * 1000), utc); return days ? text.slice(0, 10) : text.slice(11) }) },
        { ...axis, size: 62, space: 34, incrs: WHOLE, values: (_plot, ticks) => ticks.map(plain) },
      ],
      series: [{}, { stroke: colour('--plot-1'), width: 1.4, points: { show: points.length < 3 }, paths: uPlot.paths.stepped({ align: 1 }) }],
      hooks: { setCursor: [(shown) => { const at = shown.cursor.idx; told.textContent = at == null ? rest : `${Console.counted(points[at][1], 'event')} on ${written(new Date(points[at][0] * 1000), utc)}` }] },
    }, [points.map(([at]) => at), points.map(([, events]) => events)], canvas)
  }
  onShow(draw)
  document.addEventListener('theme', draw)
  document.addEventListener('click', (event) => { if (event.target.id === 'zone') draw() })
  new ResizeObserver(() => { if (plot) plot.setSize({ width: one('[data-growth]').clientWidth, height: 240 }) }).observe(document.documentElement)
})()
