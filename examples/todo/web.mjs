// The same todo list in a browser. Each tab shows what the others do, also tabs of other browsers, and programs.
import { makePersistedAdapter } from '@livestore/adapter-web'
import LiveStoreSharedWorker from '@livestore/adapter-web/shared-worker?sharedworker'
import { createStorePromise } from '@livestore/livestore'

import LiveStoreWorker from './livestore.worker.mjs?worker'
import { events, schema, tables } from './schema.mjs'

const given = new URLSearchParams(location.search)
const [form, list, status] = ['form', 'ul', '[role=status]'].map((one) => document.querySelector(one))

const store = await createStorePromise({
  schema,
  storeId: given.get('list') ?? 'todos',
  adapter: makePersistedAdapter({
    storage: { type: 'opfs' }, // the list is there without a network, too
    worker: LiveStoreWorker,
    sharedWorker: LiveStoreSharedWorker,
  }),
  ...(given.has('token') ? { syncPayload: { authToken: given.get('token') } } : {}),
  batchUpdates: (run) => run(),
  disableDevtools: true,
})

form.addEventListener('submit', (event) => {
  event.preventDefault()
  const text = form.elements.text.value.trim()
  if (text !== '') store.commit(events.todoCreated({ id: crypto.randomUUID(), text }))
  form.reset()
})

const show = ({ id, text, done }) => {
  const [item, label, box] = ['li', 'label', 'input'].map((one) => document.createElement(one))
  Object.assign(box, { type: 'checkbox', checked: done, disabled: done })
  box.addEventListener('change', () => store.commit(events.todoDone({ id })))
  label.className = done ? 'done' : ''
  label.append(box, ` ${text}`)
  item.append(label)
  return item
}

store.subscribe(tables.todos.orderBy('id', 'asc'), (todos) => {
  list.replaceChildren(...todos.map(show))
  status.textContent = todos.length === 0 ? 'Nothing to do.' : `${todos.filter(({ done }) => !done).length} to do`
})
