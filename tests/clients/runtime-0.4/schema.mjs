// A small but real LiveStore application: todos (one row per event) and settings (the last writer wins).
//
// `settings` shows the total order: two clients agree on its values only when they applied the same events in the same
// order. `todos` shows that no event was lost and, with its primary key, that none was applied twice.
import { Events, makeSchema, Schema, State } from '@livestore/livestore'

export const tables = {
  todos: State.SQLite.table({
    name: 'todos',
    columns: {
      id: State.SQLite.text({ primaryKey: true }),
      text: State.SQLite.text({ default: '' }),
      completed: State.SQLite.boolean({ default: false }),
    },
  }),
  settings: State.SQLite.table({
    name: 'settings',
    columns: {
      key: State.SQLite.text({ primaryKey: true }),
      value: State.SQLite.text({ default: '' }),
    },
  }),
}

export const events = {
  todoCreated: Events.synced({
    name: 'v1.TodoCreated',
    schema: Schema.Struct({ id: Schema.String, text: Schema.String }),
  }),
  todoCompleted: Events.synced({ name: 'v1.TodoCompleted', schema: Schema.Struct({ id: Schema.String }) }),
  settingSet: Events.synced({
    name: 'v1.SettingSet',
    schema: Schema.Struct({ key: Schema.String, value: Schema.String }),
  }),
}

const materializers = State.SQLite.materializers(events, {
  'v1.TodoCreated': ({ id, text }) => tables.todos.insert({ id, text, completed: false }),
  'v1.TodoCompleted': ({ id }) => tables.todos.update({ completed: true }).where({ id }),
  'v1.SettingSet': ({ key, value }) => tables.settings.insert({ key, value }).onConflict('key', 'replace'),
})

export const schema = makeSchema({ events, state: State.SQLite.makeState({ tables, materializers }) })
