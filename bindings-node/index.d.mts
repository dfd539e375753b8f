// The same types for ES modules; the default export is what `require` gives.
import * as ottla from './index.cjs'
export * from './index.cjs'
export default ottla
