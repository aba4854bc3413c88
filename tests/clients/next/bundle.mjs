// Makes one file of the driver and of a checkout of LiveStore's repository; its packages must be installed beside this file
// (npm install --legacy-peer-deps --ignore-scripts), and those of ../cloudflare, which have esbuild.
//
//     node bundle.mjs CHECKOUT OUTPUT.mjs
import fs from 'node:fs'
import path from 'node:path'

import { build } from '../cloudflare/node_modules/esbuild/lib/main.js'

const [checkout, outfile] = process.argv.slice(2)
const here = import.meta.dirname
const sources = {
  name: 'sources of the checkout',
  setup: ({ onResolve }) =>
    onResolve({ filter: /^@livestore\// }, ({ path: name }) => {
      const [, part, ...rest] = name.split('/')
      const directory = path.resolve(checkout, 'packages/@livestore', part)
      const { exports } = JSON.parse(fs.readFileSync(path.join(directory, 'package.json'), 'utf8'))
      const entry = exports[['.', ...rest].join('/')]
      const file = typeof entry === 'string' ? entry : (entry.node ?? entry.default ?? entry.import)
      return { path: path.join(directory, file) }
    }),
}
await build({
  entryPoints: [path.join(here, 'driver.mjs')],
  outfile,
  bundle: true,
  platform: 'node',
  format: 'esm',
  conditions: ['node', 'import'],
  nodePaths: [path.join(here, 'node_modules')],
  plugins: [sources],
  banner: { js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);" },
})
