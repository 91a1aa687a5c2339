// The form of an app's input, out of its JSON Schema. What a form cannot hold is written as JSON instead. Pure.

export interface FormField {
  name: string;
  kind: 'text' | 'long' | 'integer' | 'number' | 'flag' | 'choice' | 'json';
  required: boolean;
  hint: string;
  choices: readonly string[];
  initial: string;
}

export interface InputSchema {
  fields: readonly FormField[];
}

const LONG_TEXT = 200;

/** Null when there is no schema of an object: then the whole input is written as JSON. */
export function readSchema(text: string): InputSchema | null {
  const schema = parsed(text);
  if (!isRecord(schema) || schema['type'] !== 'object' || !isRecord(schema['properties'])) return null;
  const required = Array.isArray(schema['required']) ? (schema['required'] as unknown[]) : [];
  const fields = Object.entries(schema['properties']).map(([name, one]) =>
    fieldOf(name, isRecord(one) ? one : {}, required.includes(name)),
  );
  return { fields };
}

function fieldOf(name: string, one: Record<string, unknown>, required: boolean): FormField {
  const options = Array.isArray(one['enum']) ? (one['enum'] as unknown[]) : null;
  const kind = kindOf(one, options);
  const given = one['default'];
  return {
    name,
    kind,
    required,
    hint: typeof one['description'] === 'string' ? one['description'].slice(0, 300) : '',
    choices: kind === 'choice' ? (options ?? []).map(String) : [],
    initial: given === undefined ? '' : typeof given === 'string' ? given : JSON.stringify(given),
  };
}

function kindOf(one: Record<string, unknown>, options: readonly unknown[] | null): FormField['kind'] {
  if (options?.every((option) => typeof option === 'string') === true) return 'choice';
  switch (one['type']) {
    case 'string':
      return typeof one['maxLength'] === 'number' && one['maxLength'] > LONG_TEXT ? 'long' : 'text';
    case 'integer':
      return 'integer';
    case 'number':
      return 'number';
    case 'boolean':
      return 'flag';
    default:
      return 'json';
  }
}

export type Filled = { ok: true; input: Record<string, unknown> } | { ok: false; field: string };

/** What was typed, as the app's input; fields left empty are left out. */
export function fillIn(fields: readonly FormField[], typed: Readonly<Record<string, string>>): Filled {
  const input: Record<string, unknown> = {};
  for (const field of fields) {
    const text = typed[field.name] ?? field.initial;
    if (text === '') {
      if (field.required) return { ok: false, field: field.name };
      continue;
    }
    const value = valueOf(field, text);
    if (value === undefined) return { ok: false, field: field.name };
    input[field.name] = value;
  }
  return { ok: true, input };
}

function valueOf(field: FormField, text: string): unknown {
  switch (field.kind) {
    case 'integer':
      return /^-?\d{1,15}$/.test(text.trim()) ? Number(text) : undefined;
    case 'number':
      return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : undefined;
    case 'flag':
      return text === 'true';
    case 'json':
      return parsed(text);
    default:
      return text;
  }
}

export function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
