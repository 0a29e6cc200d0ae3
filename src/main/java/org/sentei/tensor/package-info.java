/** Element types, shapes, named read-only tensors, dense or as bit mask and kept values; JDK only, owns no memory. */
package org.sentei.tensor;
