/** Ties everything together: recipe, plan, pipeline, evaluation and report, behind the façade {@code Sentei}. */
package org.sentei.engine;
