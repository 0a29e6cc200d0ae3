/** Element types, shapes and named read-only tensors; JDK only, owns no memory. */
package org.sentei.tensor;
