// Where a form can begin: three kinds of handler, each with what usually goes with it.

import type { MessageKey } from '~/lib/i18n';
import { FRESH, type AppDraft } from './draft';

export interface Template {
  key: string;
  title: Extract<MessageKey, `deploy.template.${string}`>;
  text: Extract<MessageKey, `deploy.template.${string}`>;
  draft: Partial<AppDraft>;
}

/** The project that `tallystick app init` writes, and that a local market has lying ready. */
const GREETING_SCHEMA = `{
  "type": "object",
  "required": ["name"],
  "additionalProperties": false,
  "properties": {
    "name": { "type": "string", "examples": ["world"] },
    "language": { "type": "string", "enum": ["en", "de", "zh"], "default": "en" }
  }
}`;

export const TEMPLATES: readonly Template[] = [
  {
    key: 'hello',
    title: 'deploy.template.hello',
    text: 'deploy.template.helloText',
    draft: {
      name: 'hello',
      entry: 'handler:greet',
      warmUp: 'handler:load',
      schema: GREETING_SCHEMA,
      memoryMib: '512',
    },
  },
  {
    key: 'gpu',
    title: 'deploy.template.gpu',
    text: 'deploy.template.gpuText',
    draft: {
      entry: 'handler:run',
      warmUp: 'handler:load',
      gpuClass: '',
      memoryMib: '16384',
      diskMib: '4096',
      timeout: '120s',
      cooldown: '300s',
      model: 'gpu',
      call: '',
      gpuHour: '0.6',
    },
  },
  {
    key: 'runpod',
    title: 'deploy.template.runpod',
    text: 'deploy.template.runpodText',
    draft: { handler: 'runpod', entry: 'handler:handler', memoryMib: '4096' },
  },
  {
    key: 'http',
    title: 'deploy.template.http',
    text: 'deploy.template.httpText',
    draft: { handler: 'http', memoryMib: '4096' },
  },
];

/** The template over a fresh form; what a person chose by name or image is kept. */
export function begun(template: Template, before: AppDraft): AppDraft {
  return { ...FRESH, image: before.image, ...template.draft, name: template.draft.name ?? before.name };
}
