package demodb

// Bind is how an operation connects.
var Bind = bind
