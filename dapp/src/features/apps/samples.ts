// How a program calls the app, in three languages; the key is the reader's own.

import type { InputSchema } from './schema';
import { fillIn } from './schema';

export type Sample = 'curl' | 'python' | 'typescript';

export function exampleInput(schema: InputSchema | null): string {
  if (schema === null) return '{}';
  const typed = Object.fromEntries(
    schema.fields
      .filter((field) => field.required && field.initial === '')
      .map((field) => [field.name, standIn(field.kind, field.choices)]),
  );
  const filled = fillIn(schema.fields, typed);
  return filled.ok ? JSON.stringify(filled.input) : '{}';
}

function standIn(kind: string, choices: readonly string[]): string {
  if (kind === 'choice') return choices[0] ?? '';
  if (kind === 'integer' || kind === 'number') return '1';
  if (kind === 'flag') return 'true';
  return kind === 'json' ? '[]' : 'text';
}

export function samples(origin: string, app: string, input: string): Record<Sample, string> {
  return {
    curl: [
      `curl ${origin}/v1/apps/${app}/calls \\`,
      `  -H "Authorization: Bearer $TALLYSTICK_KEY" \\`,
      `  -H "Content-Type: application/json" \\`,
      `  -d '${input.replaceAll("'", `'\\''`)}'`,
    ].join('\n'),
    python: [
      'import os',
      '',
      'from tallystick import GPUClient',
      '',
      `with GPUClient(url="${origin}", api_key=os.environ["TALLYSTICK_KEY"]) as client:`,
      `    result = client.call("${app}", ${pythonOf(input)})`,
      '    print(result.output, result.charge)',
    ].join('\n'),
    typescript: [
      `const answer = await fetch("${origin}/v1/apps/${app}/calls", {`,
      '  method: "POST",',
      '  headers: {',
      '    Authorization: `Bearer ${process.env.TALLYSTICK_KEY}`,',
      '    "Content-Type": "application/json",',
      '  },',
      `  body: JSON.stringify(${input}),`,
      '});',
      'if (!answer.ok) throw new Error(await answer.text());',
      'console.log(await answer.json(), answer.headers.get("Tallystick-Charge"));',
    ].join('\n'),
  };
}

function pythonOf(json: string): string {
  return json.replace(/"(?:[^"\\]|\\.)*"|\btrue\b|\bfalse\b|\bnull\b/g, (word) =>
    word === 'true' ? 'True' : word === 'false' ? 'False' : word === 'null' ? 'None' : word,
  );
}
