// The load hook of simulation-off.mjs: changes the one constant in the one module, or fails the load.
const MODULE = '/@livestore/common/dist/sync/ClientSessionSyncProcessor.js'
const SHIPPED = 'const SIMULATION_ENABLED = true;'

export const load = async (url, context, nextLoad) => {
  const loaded = await nextLoad(url, context)
  if (!url.endsWith(MODULE)) return loaded
  const source = loaded.source.toString()
  if (source.split(SHIPPED).length !== 2) throw new Error(`${MODULE}: "${SHIPPED}" is not there exactly once`)
  console.error('simulation switched off in', url)
  return { ...loaded, source: source.replace(SHIPPED, 'const SIMULATION_ENABLED = false;') }
}
