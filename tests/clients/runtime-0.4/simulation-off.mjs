// node --import ./simulation-off.mjs driver.mjs: the same runtime with its forgotten simulation switch turned off.
//
// The published 0.4.0 session drops the application's own commits when it rebases under fast ones, because
// `SIMULATION_ENABLED` was shipped as `true` (SPEC section 2). Only this process's copy of the module is changed, while it
// is loaded; node_modules stays as published.
import { register } from 'node:module'

register('./simulation-off-hook.mjs', import.meta.url)
