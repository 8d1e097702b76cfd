// Decides questions by an engine that is not ours: `node oracle.mjs NODE_MODULES`, with npm's @cloud-copilot/iam-simulate
// in that folder. In: lines of JSON, [policy, action, resource, context]; out: allowed, denied or not_allowed, each on a line.
import { createInterface } from 'node:readline'
import { createRequire } from 'node:module'
import { join } from 'node:path'

const require = createRequire(join(process.argv[2], 'x.js'))
const { runUnsafeSimulation } = require('@cloud-copilot/iam-simulate')
const words = { Allowed: 'allowed', ExplicitlyDenied: 'denied', ImplicitlyDenied: 'not_allowed' }
const account = '111122223333'

for await (const line of createInterface({ input: process.stdin })) {
  const [policy, action, resource, context] = JSON.parse(line)
  const found = runUnsafeSimulation(
    {
      request: {
        principal: `arn:aws:iam::${account}:user/u`,
        action,
        resource: { resource, accountId: account },
        contextVariables: context
      },
      identityPolicies: [{ name: 'p', policy }],
      serviceControlPolicies: [],
      resourceControlPolicies: []
    },
    {}
  )
  console.log(words[found] ?? words[found.result] ?? `unknown: ${JSON.stringify(found).slice(0, 300)}`)
}
