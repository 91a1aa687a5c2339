// Digests of typed data by viem, one line of JSON in, one out: {types, primaryType, domain, message}.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const { hashTypedData } = createRequire(import.meta.url)("viem");

for await (const line of createInterface({ input: process.stdin })) {
  const { types, primaryType, domain, message } = JSON.parse(line);
  for (const { name, type } of types[primaryType]) {
    // Numbers come as text: a uint256 fits no JavaScript number.
    if (type.startsWith("uint")) message[name] = BigInt(message[name]);
  }
  domain.chainId = BigInt(domain.chainId);
  console.log(hashTypedData({ types, primaryType, domain, message }));
}
