/** Documented experiments that anyone can run again. */
package org.sentei.engine.experiment;
