import { defineConfig } from 'vite'

export default defineConfig({
  build: { target: 'esnext', chunkSizeWarningLimit: 1000 },
  optimizeDeps: {
    exclude: ['@livestore/wa-sqlite'], // its WebAssembly is found beside its code
    include: ['@livestore/adapter-web/worker', '@livestore/sync-cf/client'], // found late, in a worker
  },
  worker: { format: 'es' },
})
