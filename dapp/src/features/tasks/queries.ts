import { ask, client, type Schemas } from '~/lib/api';

export type Task = Schemas['TaskBody'];

export function myTasks(cursor: string | undefined, state?: string) {
  const query = {
    limit: 50,
    ...(cursor === undefined ? {} : { cursor }),
    ...(state === undefined || state === '' ? {} : { state: state as never }),
  };
  return ask(client.GET('/v1/tasks', { params: { query } }));
}

export function oneTask(taskId: string) {
  return ask(client.GET('/v1/tasks/{task_id}', { params: { path: { task_id: taskId } } }));
}
