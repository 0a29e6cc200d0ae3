/** What the user asks for: recipes, read strictly, and the sites that their steps claim. */
package org.sentei.engine.recipe;
